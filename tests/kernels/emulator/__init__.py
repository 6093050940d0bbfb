"""Tests of the emulator, one file for each thing it promises."""
