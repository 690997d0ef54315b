FROM base
CMD echo "hi  there"
# row: CMD shell form
# peers: buildah buildkit
