"""L4: results as plain records, tables and text."""
