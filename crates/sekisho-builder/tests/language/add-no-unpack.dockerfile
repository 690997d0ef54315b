FROM scratch
ADD --unpack=false archive.tar /t/
# row: ADD --unpack
# peers: buildkit-now
# want: kind t/archive.tar f
