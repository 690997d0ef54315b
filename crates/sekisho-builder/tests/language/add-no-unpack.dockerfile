FROM scratch
ADD --unpack=false archive.tar /t/
# row: ADD --unpack
# peers: none
# want: kind t/archive.tar f
