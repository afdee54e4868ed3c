"""The checks: every public function in these files is one, in the order of files and lines, from data to training."""
