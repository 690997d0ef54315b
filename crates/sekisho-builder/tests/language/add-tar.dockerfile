FROM base
ADD archive.tar /t/
ADD archive.tar.gz /u
# row: ADD an archive
# peers: buildah buildkit
