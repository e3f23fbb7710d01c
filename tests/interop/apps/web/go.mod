module web

go 1.25
