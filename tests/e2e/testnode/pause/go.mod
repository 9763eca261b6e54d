module g2rpo.dev/testcluster/pause

go 1.26.0
