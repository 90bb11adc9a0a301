# Hangs, and what it started, too.
# Limit: 3 s
sleep 1000 &
sleep 1000
