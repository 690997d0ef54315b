FROM scratch
COPY --exclude=*.txt --exclude=dir/sub . /x/
# row: COPY --exclude
# peers: buildkit-now
# want: tree x/exec.sh f755 0:0 #!/bin/sh\n
# want: tree x/dir/x f644 0:0 x
# want: absent x/a.txt
# want: absent x/dir/sub
