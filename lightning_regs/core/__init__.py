"""What everything stands on: Lightning's namespace, random streams, files, locks, checks; imports nothing of ours."""
