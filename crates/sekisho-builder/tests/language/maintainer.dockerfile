FROM base
MAINTAINER me <me@example.org>
# row: MAINTAINER
# peers: buildah buildkit
