"""What is written for people and other tools: masks, records, pictures."""
