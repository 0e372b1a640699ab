"""HTTP for billing, collections and operators: it asks the head-end and nothing else."""
