"""Part "sequence": recurrent networks, from one day to the next."""
