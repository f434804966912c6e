"""Everything that is particular to LTX-2.x: its modules, codecs, sizes and files."""
