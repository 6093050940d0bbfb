"""What asks a model in a panel: the controls of a setting, and the place where its answer grows."""
