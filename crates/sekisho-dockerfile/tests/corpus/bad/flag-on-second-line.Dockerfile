FROM debian
COPY --link \
# mistake: 4:6 unknown flag `--chwon` of COPY
     --chwon=a b c
