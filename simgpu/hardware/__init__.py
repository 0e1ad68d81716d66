"""Where does it run? Specifications of GPUs, links, nodes and clusters, and their graph."""
