FROM base
# one
ENV A=1 \
# inside
    B=2
RUN echo one \
  # not a shell comment
  two > /out
# row: comments and blanks
# peers: buildah buildkit
# want: tree out f644 0:0 one two\n
