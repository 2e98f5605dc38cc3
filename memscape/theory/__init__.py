"""The mathematics on numbers: partition functions, loss floors, size-data balance, capacities."""
