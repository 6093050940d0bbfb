"""What is asked and measured: a plan, its scenarios and cases, and the runs made of them."""
