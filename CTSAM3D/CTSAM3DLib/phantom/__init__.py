"""A synthetic torso, for demonstrations, tests and training without a patient."""
