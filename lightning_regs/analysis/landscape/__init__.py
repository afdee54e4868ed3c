"""The loss around a net: directions, surfaces, the path of a training, eigenvalues of the Hessian."""
