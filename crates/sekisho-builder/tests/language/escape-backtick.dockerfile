# escape=`
FROM base
ENV A=1 `
    B=2
COPY a.txt `
  /x/
# row: directive escape
# peers: buildah buildkit
