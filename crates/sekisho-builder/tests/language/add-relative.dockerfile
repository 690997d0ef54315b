FROM base
WORKDIR /w/x
ADD a.txt ../y
ADD dir sub/
# row: ADD to a relative path
# peers: buildah buildkit
