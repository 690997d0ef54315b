FROM base
CMD ["a b", "\u00e9", "\"q\""]
# row: JSON form
# peers: buildah buildkit
