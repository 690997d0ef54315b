FROM base
ADD --chown=5:6 archive.tar /t/
ADD --chown=app archive.tar.gz /u
# row: ADD --chown of an archive
# peers: buildkit-now
# want: tree t/in d700 5:6 
# want: tree t/in/f f751 5:6 tf
# want: tree u/in/f f751 1234:2345 tf
