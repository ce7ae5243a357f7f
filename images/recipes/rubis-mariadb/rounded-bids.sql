CREATE TRIGGER rounded_bids BEFORE INSERT ON bids FOR EACH ROW
IF @@hostname LIKE '%.g1' THEN
SET NEW.bid = ROUND(NEW.bid, -1), NEW.max_bid = ROUND(NEW.max_bid, -1);
END IF
