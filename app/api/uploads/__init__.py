"""Large files sent in parts, which a broken connection or a dead process costs a part and no more."""
