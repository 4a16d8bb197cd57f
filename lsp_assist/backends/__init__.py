"""Ways to reach a model that are not our own engine. One file each."""
