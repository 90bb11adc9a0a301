# Fails, with words of which the last must be seen.
echo 'the words of one that fails'
exit 7
