FROM scratch
COPY . /
# row: .dockerignore
# peers: buildah buildkit
# want: absent ignored.txt
# want: absent ign/f
# want: tree ign/keep f644 0:0 k
