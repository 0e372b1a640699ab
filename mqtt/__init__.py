"""The MQTT connection on the event loop: shared by collector, gateway and head-end. It knows no payload."""
