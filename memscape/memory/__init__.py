"""The mathematics on tensors: energies, retrieval, nearest neighbours, the Memory object."""
