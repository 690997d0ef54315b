FROM base
SHELL ["/bin/sh", "-euc"]
RUN echo $- > /x; case $(cat /x) in *e*u*|*u*e*) ;; *) exit 1;; esac
CMD ["x"]
# row: SHELL is what RUN runs with
# peers: buildah buildkit
