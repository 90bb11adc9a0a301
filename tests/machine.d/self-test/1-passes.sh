# Passes.
test "$(id -u)" = 0
