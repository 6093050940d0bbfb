"""The panel of attention kernels."""
