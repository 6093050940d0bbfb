"""What all panels are made of: the frame, its look and keys, the beat, the still picture."""
