"""A group of members that carries out steps: worker, perhaps a server, and the lines between them. Knows no Ray."""
