FROM base
CMD ["a"]
ENTRYPOINT ["b", "c"]
# row: CMD and ENTRYPOINT
# peers: buildah buildkit
