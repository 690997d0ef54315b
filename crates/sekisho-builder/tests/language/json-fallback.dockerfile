FROM base
CMD [ 'a', 'b' ]
ENTRYPOINT ["x" "y"]
# row: JSON form falls back to the shell
# peers: buildah buildkit
