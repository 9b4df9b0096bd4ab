"""The server's side: which bookings, the query, the conversation, the fetch, and a simulator."""
