// Words that the model `terra` knows; it paints the Earth from above and knows few others.

export const STYLES = [
  { id: "painted", label: "Painted", words: "painted earth" },
  { id: "satellite", label: "Satellite", words: "satellite view" },
  { id: "relief", label: "Relief", words: "relief map" },
  { id: "none", label: "As written", words: "" },
];

export const WORDS = [
  "continents", "islands", "coast", "warm sea", "mountains", "forest", "sandy desert", "ice sheet",
  "archipelago", "open ocean", "lakes", "snowy peaks", "green mountains", "rocky desert", "jungle", "woodland", "green plains",
  "savanna", "steppe", "dunes", "glaciers", "snow", "tropical", "temperate", "arctic", "inland", "whole planet", "close view",
];
