"""What goes wrong in a long run: kills, full disks, floods, forks, damaged files."""
