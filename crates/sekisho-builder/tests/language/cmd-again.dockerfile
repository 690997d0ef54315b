FROM base
CMD ["a"]
CMD ["b", "c"]
ENTRYPOINT ["d"]
ENTRYPOINT ["e"]
# row: the last CMD counts
# peers: buildah buildkit
