"""Long work of a panel: on a thread of its own, with its progress and a way to stop it."""
