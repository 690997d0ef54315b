FROM base
COPY dir linked deep/a /all/
COPY dir/x dir/y deep/a/b/c.txt /files/
# row: COPY of several folders
# peers: buildah buildkit
