package main

import (
	"encoding/json"
	"log"
	"net/http"
)

type status struct {
	Name string `json:"name"`
	Busy int    `json:"busy"`
}

func handle(w http.ResponseWriter, r *http.Request) {
	if err := json.NewEncoder(w).Encode(status{Name: "one", Busy: 3}); err != nil {
		log.Printf("encode: %v", err)
	}
}

func main() {
	http.HandleFunc("/status", handle)
	log.Fatal(http.ListenAndServe(":8080", nil))
}
