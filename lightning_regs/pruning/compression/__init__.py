"""Deep Compression: weights that share values, their places as gaps, Huffman codes, and a file of them."""
