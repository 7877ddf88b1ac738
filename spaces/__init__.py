"""From one space to another: what is stored is embedded again, from its pictures."""
