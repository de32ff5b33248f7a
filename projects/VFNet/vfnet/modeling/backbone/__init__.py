"""ResNets and necks; each module registers its builder."""
