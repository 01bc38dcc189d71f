"""One network's look at one photo: its answer, its time, and each place's maps, reduced to what a picture needs."""
