"""A report as a person sees it: sections, plots, tables, files."""
