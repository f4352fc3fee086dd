"""Reports as text, HTML, JSON, tables and widgets; each view is a pure function of the records."""
