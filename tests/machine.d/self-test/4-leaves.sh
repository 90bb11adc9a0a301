# Passes, but leaves a device behind.
dmsetup create left --table '0 8 error'
