FROM base
ADD a.txt /x
ADD dir /d
# row: ADD a file
# peers: buildah buildkit
